"""The rendered shelf as a camera sees it: any moment of a seed's script as a frame."""

from math import exp, pi, sin

import numpy as np

from edge_agent.camera.shelf import arms, layout
from edge_agent.camera.shelf.long import write_long
from edge_agent.camera.shelf.optics import Grain, Palm, lit, shaken
from edge_agent.camera.shelf.scene import Copy, shelf
from edge_agent.camera.shelf.script import GRIP_S, STREAM, Change, Script, write_script
from edge_agent.contracts.identifiers import EMPTY
from edge_agent.contracts.preprocess import Image

_COVERING_S = 0.4
_BUMP_S = 0.9


class Film:
    """Frames of one script. A frame depends on seed and moment alone, not on the frames before.

    Args:
        seed: Of the script, the copies on the shelf, noise and shake.
        minutes: How long the script is; None: the short one of a minute and a half.
    """

    def __init__(self, seed: int, minutes: int | None = None) -> None:
        self.script: Script = write_script(seed) if minutes is None else write_long(seed, minutes)
        rng = np.random.default_rng([seed, STREAM])
        self._seed = seed
        self._grain = Grain.made(rng)
        self._palm = Palm.made(rng)
        self._phases = rng.uniform(0, 2 * pi, 12)
        self._shoppers = rng.integers(0, 100, len(self.script.changes) + len(self.script.passes))
        self._first = {slot: Copy.picked(label, rng) for slot, label in self.script.start.items()}
        self._brought = [
            None if change.label == EMPTY else Copy.picked(change.label, rng)
            for change in self.script.changes
        ]
        self._shown: tuple[int, Image] | None = None

    def reference(self) -> Image:
        """Return the full shelf before the script begins, in studio light: uint8, (720, 1280, 3), BGR."""
        return self._grain.over(shelf(self._first), np.random.default_rng([self._seed, STREAM, 1]))

    def frame(self, moment: float) -> Image:
        """Return what the camera sees.

        Args:
            moment: Seconds of the script; before its start and after its end nothing happens, but
                light, shake and noise go on.

        Returns:
            uint8, (720, 1280, 3), BGR.
        """
        chance = np.random.default_rng([self._seed, STREAM, 2, round(moment * 1000) % 2**32])
        picture = self._cleared(moment).copy()
        self._draw_arms(picture, moment)
        picture = self._covered(picture, moment)
        picture = shaken(picture, *self._shake(moment, chance))
        picture = lit(picture, *self._light(moment))
        return self._grain.over(picture, chance)

    def _cleared(self, moment: float) -> Image:
        """Return the shelf without arms; composed anew only when something changed hands."""
        done = sum(change.at - GRIP_S <= moment for change in self.script.changes)
        if self._shown is None or self._shown[0] != done:
            self._shown = (done, shelf(self._contents(done)))
        return self._shown[1]

    def _contents(self, done: int) -> dict[str, Copy | None]:
        """Return what stands in each slot after so many changes."""
        changed = zip(self.script.changes[:done], self._brought, strict=False)
        return self._first | {change.slot: copy for change, copy in changed}

    def _draw_arms(self, picture: Image, moment: float) -> None:
        for number, (change, label) in enumerate(arms.held(self.script)):
            pose = arms.reach(change, label, moment)
            if pose is not None:
                self._draw_load(picture, number, change, pose, gripped=moment >= change.at - GRIP_S)
                arms.draw(picture, pose, int(self._shoppers[number]))
        for number, arm in enumerate(self.script.passes, start=len(self.script.changes)):
            pose = arms.passing(arm, moment)
            if pose is not None:
                arms.draw(picture, pose, int(self._shoppers[number]))

    def _draw_load(
        self, picture: Image, number: int, change: Change, pose: arms.Pose, *, gripped: bool
    ) -> None:
        """Draw the packet in the hand: on its way out after the grip, on its way in before."""
        brought = self._brought[number]
        load = self._contents(number)[change.slot] if gripped else brought
        if load is None or (gripped and brought is not None):
            return
        grip = arms.grip(change, load.label)
        x, y = pose.tip[0] - grip[0], pose.tip[1] - grip[1]
        place = layout.places()[change.slot]
        load.put(picture, place.middle + load.shift + x, place.floor + y)

    def _covered(self, picture: Image, moment: float) -> Image:
        for start, end in self.script.covers:
            share = min((moment - start) / _COVERING_S, (end - moment) / _COVERING_S, 1.0)
            if share > 0:
                return self._palm.over(picture, share, sin(1.7 * moment))
        return picture

    def _shake(self, moment: float, chance: np.random.Generator) -> tuple[float, float, float]:
        """Return x and y in px and a turn in degrees: the shelf hums, and now and then is bumped."""
        hum = [
            sin(2 * pi * rate * moment + phase)
            for rate, phase in zip((0.31, 1.7, 7.3) * 2, self._phases[:6], strict=True)
        ]
        x, y = 0.35 * hum[0] + 0.2 * hum[1] + 0.2 * hum[2], 0.3 * hum[3] + 0.2 * hum[4] + 0.15 * hum[5]
        turn = 0.015 * hum[1] + 0.01 * hum[4]
        for bump in self.script.bumps:
            since = moment - bump
            if 0 <= since < _BUMP_S:
                swing = exp(-3.5 * since) * sin(2 * pi * 4.2 * since)
                x, y, turn = x + 3.2 * swing, y - 2.2 * swing, turn + 0.12 * swing
        jitter = chance.normal(0, 0.12, 2)
        return float(x + jitter[0]), float(y + jitter[1]), float(turn)

    def _light(self, moment: float) -> tuple[float, float]:
        """Return strength and warmth of the light: slow drift, and the steps of the script."""
        one, two, three = self._phases[6:9]
        gain = 1 + 0.025 * sin(2 * pi * moment / 37 + one) + 0.012 * sin(2 * pi * moment / 9.7 + two)
        warmth = 1 + 0.015 * sin(2 * pi * moment / 53 + three)
        for light in reversed(self.script.lights):
            if moment >= light.at:
                return gain * light.gain, warmth * light.warmth
        return gain, warmth
