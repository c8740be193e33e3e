"""The narrow protocol between the agent and whatever makes pictures."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from edge_agent.contracts.preprocess import Image


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture and its moment.

    Attributes:
        image: uint8, (height, width, 3), BGR.
        at: Seconds on the camera's own steady clock: the position in a clip or folder, the
            monotonic clock for a live camera. Only differences mean anything.
    """

    image: Image
    at: float


class Camera(ABC):
    """A source of frames, latest first: a slow reader misses frames and never sees old ones."""

    @abstractmethod
    def read(self) -> Frame | None:
        """Return the next frame, or None when the source has come to its end.

        Raises:
            DeviceError: The camera gives no frame now; reading again may succeed.
        """

    @property
    def dropped(self) -> int:
        """How many frames came and were never given; 0 where none can be lost."""
        return 0

    def close(self) -> None:  # noqa: B027 - most sources hold nothing
        """Let the source go; harmless when called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Stream(Camera):
    """A source that queues its frames: somebody must take them all the time, or they grow old in there."""

    @abstractmethod
    def grab(self) -> None:
        """Wait for the next frame and hold it, with as little work as can be.

        Raises:
            DeviceError: The stream has ended; close it and open another.
        """

    @abstractmethod
    def retrieve(self) -> Frame | None:
        """Return the frame that is held, or None when it is damaged or comes too late to be the present."""

    def read(self) -> Frame:
        """Return the next frame that is whole and fresh.

        Raises:
            DeviceError: The stream has ended.
        """
        while True:
            self.grab()
            if (frame := self.retrieve()) is not None:
                return frame
