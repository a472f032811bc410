"""Any vision, vision-language or CLIP-like model of transformers as a source of features, by folder or hub name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...policies.backbones import library
from ...policies.backbones.image import mean_and_peak
from ...policies.backbones.vision import IMAGENET, Pixels
from .frames import FrameBatch
from .sources import RANDOM, TOLD, disturb, of_grid, weights_digest


class TransformersSource:
    """Hidden states of every layer.

    Three kinds are told apart by what the model is: "vision" (images alone), "pair" (an image and a text tower, such as
    CLIP and SigLIP) and "language" (images and text in one sequence, such as LLaVA and Qwen2-VL).

    Args:
        model: of transformers, in evaluation mode.
        kind: see above.
        processor: of images for the first two (mean, deviation and size), of both for the last.
        tokenizer: of texts, for "pair".
        name: of it, for people.
    """

    cameras: tuple[str, ...] | None = None

    def __init__(self, model: Any, kind: str, processor: Any, tokenizer: Any, name: str) -> None:
        self.model, self.kind, self.name = model.eval(), kind, name
        self.processor, self.tokenizer = processor, tokenizer
        if kind != "language":
            mean = getattr(processor, "image_mean", None) or IMAGENET[0]
            deviation = getattr(processor, "image_std", None) or IMAGENET[1]
            vision = getattr(model.config, "vision_config", model.config)
            self.size = _size(processor, vision)
            self.pixels = Pixels(mean, deviation)

    @classmethod
    def load(cls, place: str) -> TransformersSource:
        """From a folder or by its name on the hub.

        Raises:
            FileNotFoundError: there is nothing of that name.
            ValueError: what is there does not see, or lacks what turns pictures or texts into its inputs.
        """
        looked = "a policy folder (spec.json), or " if Path(place).is_dir() else ""
        wanted = f"{looked}a folder of transformers with config.json and model.safetensors"
        config = library.options(place, f"{place}: found nothing to probe, wanted {wanted}")
        kind = _kind(config)
        if kind is None:
            raise ValueError(
                f"{place}: found model_type {config.model_type!r}, which has no images as inputs, wanted a vision or "
                "vision-language model"
            )
        model = _class(kind).from_pretrained(place, trust_remote_code=False, use_safetensors=True, dtype=torch.float32)
        return cls(model, kind, _processor(place, kind), _tokenizer(place) if kind == "pair" else None, place)

    def digest(self) -> str:
        return weights_digest(self.model, f"{self.kind} {getattr(self, 'size', '')} {self.processor}")

    def worded(self, reading: str) -> bool:
        return self.kind == "language" or reading.startswith("joint")

    @torch.inference_mode()
    def read(self, batch: FrameBatch) -> dict[str, Tensor]:
        if self.kind != "language":
            return self._read_views(batch)
        found = self._read_sequence(batch, batch.texts)
        if batch.told:
            found |= {f"{TOLD}{name}": values for name, values in self._read_sequence(batch, batch.told).items()}
        return found

    def untrained(self, seed: int) -> TransformersSource:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(RANDOM + seed)
            model = _class(self.kind).from_config(self.model.config)
        return TransformersSource(model, self.kind, self.processor, self.tokenizer, f"{self.name} with random weights")

    def disturbed(self, share: float, seed: int) -> TransformersSource:
        """With noise of a share of each tensor's deviation."""
        disturb(self.model, share, seed)
        return self

    def _read_views(self, batch: FrameBatch) -> dict[str, Tensor]:
        views = [self._see(torch.from_numpy(images)) for images in batch.images.values()]
        found = {name: torch.cat([view[name] for view in views], 1) for name in views[0] if name != "embedding"}
        if self.kind != "pair":
            return found
        embedded = torch.cat([view["embedding"] for view in views], 1)
        for prefix, said in (("", batch.texts), (TOLD, batch.told)):
            if said:
                texts = self._embed_texts(said)
                products = torch.cat([view["embedding"] * texts for view in views], 1)
                found[f"{prefix}joint"] = torch.cat([embedded, texts, products], 1)
        return found

    def _see(self, images: Tensor) -> dict[str, Tensor]:
        tower = self.model.vision_model if self.kind == "pair" else self.model
        options = {"interpolate_pos_encoding": True} if _interpolates(tower) else {}
        output = tower(pixel_values=self.pixels(images, self.size), output_hidden_states=True, **options)
        found: dict[str, Tensor] = {}
        for number, states in enumerate(output.hidden_states):
            found |= _readings(f"layer.{number}", states, self.size)
        if self.kind == "pair":
            pooled = output.pooler_output
            projection = getattr(self.model, "visual_projection", None)
            found["embedding"] = _unit(pooled if projection is None else projection(pooled))
        return found

    def _embed_texts(self, texts: list[str]) -> Tensor:
        distinct = list(dict.fromkeys(texts))
        longest = int(getattr(self.model.config.text_config, "max_position_embeddings", 64))
        tokens = self.tokenizer(
            distinct, padding="max_length", truncation=True, max_length=longest, return_tensors="pt"
        )
        wanted = {name: tokens[name] for name in ("input_ids", "attention_mask") if name in tokens}
        pooled = self.model.text_model(**wanted).pooler_output
        projection = getattr(self.model, "text_projection", None)
        embedded = _unit(pooled if projection is None else projection(pooled))
        place = {text: row for row, text in enumerate(distinct)}
        return embedded[torch.tensor([place[text] for text in texts])]

    def _read_sequence(self, batch: FrameBatch, said: list[str]) -> dict[str, Tensor]:
        """A prompt with every camera's picture and the instruction; frames of one length of prompt go together."""
        prompts = [self._prompt(len(batch.images), text) for text in said]
        lengths = [len(self.processor.tokenizer(prompt)["input_ids"]) for prompt in prompts]
        parts: list[tuple[list[int], dict[str, Tensor]]] = []
        for length in sorted(set(lengths)):  # no padding: what is read of a frame does not hang on its neighbours
            rows = [row for row, of in enumerate(lengths) if of == length]
            pictures = [[images[row] for images in batch.images.values()] for row in rows]
            inputs = self.processor(images=pictures, text=[prompts[row] for row in rows], return_tensors="pt")
            output = self.model(**inputs, output_hidden_states=True, use_cache=False)
            readings: dict[str, Tensor] = {}
            for number, states in enumerate(output.hidden_states):
                readings[f"layer.{number}/pooled"] = mean_and_peak(states.float())
                readings[f"layer.{number}/last"] = states[:, -1].float()
            parts.append((rows, readings))
        order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
        return {name: torch.cat([readings[name] for _, readings in parts])[order] for name in parts[0][1]}

    def _prompt(self, pictures: int, text: str) -> str:
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"} for _ in range(pictures)] + [{"type": "text", "text": text}]
            turn = {"role": "user", "content": content}
            return str(self.processor.apply_chat_template([turn], add_generation_prompt=True))
        token = getattr(self.processor, "image_token", "<image>")
        return f"{token}\n" * pictures + text


def _readings(name: str, states: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
    """Of hidden states [B, T, D], or of a convolutional stage [B, D, h, w]."""
    if states.ndim == 4:
        return of_grid(name, states.permute(0, 2, 3, 1))
    tokens = states.shape[1]
    ratio = size[0] / size[1]
    for before in range(6):  # a class token, and registers
        rows = round(((tokens - before) * ratio) ** 0.5)
        if rows and (tokens - before) % rows == 0 and abs((tokens - before) / rows * ratio - rows) < 0.5:
            grid = states[:, before:].unflatten(1, (rows, (tokens - before) // rows))
            first = {f"{name}/class": states[:, 0].float()} if before else {}
            return {**first, **of_grid(name, grid)}
    return {f"{name}/pooled": mean_and_peak(states.float())}


def _kind(config: Any) -> str | None:
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.modeling_auto import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES as PAIRS

    if config.model_type in PAIRS and hasattr(config, "vision_config"):
        return "pair"
    if type(config) in AutoModelForImageTextToText._model_mapping:  # pyright: ignore[reportAttributeAccessIssue]
        return "language"
    sees = hasattr(config, "image_size") or hasattr(config, "num_channels") or hasattr(config, "patch_size")
    return "vision" if sees and not hasattr(config, "vocab_size") else None


def _class(kind: str) -> Any:
    from transformers import AutoModel, AutoModelForImageTextToText

    return AutoModelForImageTextToText if kind == "language" else AutoModel


def _processor(place: str, kind: str) -> Any:
    from transformers import AutoImageProcessor, AutoProcessor

    reader = AutoProcessor if kind == "language" else AutoImageProcessor
    try:
        return reader.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError, ImportError) as error:
        if kind != "language":
            return _plain_processor(place)
        raise ValueError(
            f"{place}: found no processor, which turns pictures and texts into the model's inputs, wanted the files "
            f"that `processor.save_pretrained` writes ({str(error).splitlines()[0]})"
        ) from error


def _plain_processor(place: str) -> Any:
    """Mean, deviation and size as preprocessor_config.json says, or nothing where it is not there."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = ImageProcessingMixin.get_image_processor_dict(place)
    except OSError:
        values = {}
    return ImageProcessingMixin(**values)


def _tokenizer(place: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{place}: found no tokenizer, wanted the files that `tokenizer.save_pretrained` writes "
            f"({str(error).splitlines()[0]})"
        ) from error


def _size(processor: Any, vision: Any) -> tuple[int, int]:
    """Height and width that images are scaled to: what the processor crops or scales to, or the model's own."""
    for name in ("crop_size", "size"):
        found = getattr(processor, name, None)
        found = dict(found) if found else {}
        if found.get("height") and found.get("width"):
            return int(found["height"]), int(found["width"])
        if found.get("shortest_edge"):
            return int(found["shortest_edge"]), int(found["shortest_edge"])
    side = getattr(vision, "image_size", 224)
    return (int(side), int(side)) if isinstance(side, int) else (int(side[0]), int(side[1]))


def _interpolates(tower: nn.Module) -> bool:
    from inspect import signature

    return "interpolate_pos_encoding" in signature(tower.forward).parameters


def _unit(vectors: Tensor) -> Tensor:
    return vectors.float() / vectors.float().norm(dim=-1, keepdim=True).clamp_min(1e-9)
