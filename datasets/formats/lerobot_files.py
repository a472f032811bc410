"""The files of a LeRobot v3 data set as they are written: several episodes in one, a new one when it is full."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from .video import VideoWriter

FILES_A_CHUNK = 1000
DATA_FILE_BYTES = 100 << 20
VIDEO_FILE_BYTES = 200 << 20
PATHS = {
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


@dataclass(frozen=True)
class Place:
    """The number of a file of its kind."""

    number: int

    @property
    def chunk(self) -> int:
        return self.number // FILES_A_CHUNK

    @property
    def file(self) -> int:
        return self.number % FILES_A_CHUNK


class DataFiles:
    """Writes one table for each episode into parquet files below `root`, a row group an episode."""

    def __init__(self, root: Path, schema: pa.Schema) -> None:
        self._root, self._schema = root, schema
        self._number, self._bytes = -1, 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> Place:
        """Append an episode and return the file it went to."""
        writer = self._writer
        if writer is None or self._bytes + table.nbytes > DATA_FILE_BYTES:
            writer = self._next()
        writer.write_table(table, row_group_size=table.num_rows)
        self._bytes += table.nbytes
        return Place(self._number)

    def close(self) -> None:
        """Finish the present file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _next(self) -> pq.ParquetWriter:
        self.close()
        self._number, self._bytes = self._number + 1, 0
        place = Place(self._number)
        path = self._root / PATHS["data_path"].format(chunk_index=place.chunk, file_index=place.file)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = pq.ParquetWriter(path, self._schema, compression="snappy")
        return self._writer


class VideoFiles:
    """Writes the pictures of one camera, episode after episode, into mp4 files below `root`."""

    def __init__(self, root: Path, feature: str, fps: float, codec: str) -> None:
        self._root, self._feature, self._fps, self._codec = root, feature, fps, codec
        self._number = -1
        self._writer: VideoWriter | None = None

    def write(self, images: np.ndarray) -> tuple[Place, int, int]:
        """Append uint8 [T, H, W, 3]; the file they went to, and the frames there: first, and one past the last."""
        writer = self._writer
        if writer is None or writer.bytes > VIDEO_FILE_BYTES:
            writer = self._next(images.shape[1], images.shape[2])
        first = writer.frames
        writer.write(images)
        return Place(self._number), first, writer.frames

    def close(self) -> None:
        """Finish the present file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _next(self, height: int, width: int) -> VideoWriter:
        self.close()
        self._number += 1
        place = Place(self._number)
        name = PATHS["video_path"].format(video_key=self._feature, chunk_index=place.chunk, file_index=place.file)
        self._writer = VideoWriter(self._root / name, (height, width), self._fps, self._codec)
        return self._writer
