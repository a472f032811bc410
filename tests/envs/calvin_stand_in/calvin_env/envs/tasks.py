"""The task oracle: some of CALVIN's rules by name, and not as strict."""


class Tasks:
    def __init__(self, tasks):
        self.tasks = tasks

    def get_task_info_for_set(self, start, end, names):
        return {name for name in names if getattr(self, self.tasks[name][0])(*self.tasks[name][1:], start, end)}

    def push_object(self, block, right, far, start, end):
        before, after = (info["scene_info"]["movable_objects"][block]["current_pos"] for info in (start, end))
        moved = after[0] - before[0]
        return moved > right > 0 or moved < right < 0

    def move_door_rel(self, joint, way, start, end):
        before, after = (info["scene_info"]["doors"][joint]["current_state"] for info in (start, end))
        return after - before > way > 0 or after - before < way < 0

    def toggle_light(self, light, before, after, start, end):
        found = [info["scene_info"]["lights"][light]["logical_state"] for info in (start, end)]
        return found == [before, after]

    def lift_object(self, *_):
        return False

    place_object = rotate_object = stack_objects = unstack_objects = push_object_into = lift_object
