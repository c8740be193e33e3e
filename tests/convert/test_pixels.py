"""What a model takes for a pixel, and the 256 values that this becomes."""

import numpy as np
import pytest

from convert import pixels
from convert.pixels import RANGES, Pixels
from edge_agent.classifier import Tensor
from edge_agent.contracts.errors import DataError, UsageError


def tensor(dtype: str, scale: float = 0.0, zero_point: int = 0) -> Tensor:
    return Tensor(0, (1, 8, 8, 3), np.dtype(dtype), scale, zero_point)


@pytest.mark.parametrize(("text", "black", "white"), [("0..1", 0, 1), ("0..255", 0, 255), ("-1..1", -1, 1)])
def test_ranges_have_names(text: str, black: float, white: float) -> None:
    values = pixels.parse(text).values()
    assert (values[0], values[-1]) == pytest.approx((black, white))
    assert len(values) == 256
    assert pixels.parse(text).told == text


def test_a_mean_and_a_deviation_go_as_two_numbers() -> None:
    assert pixels.parse("0.0171,-2.1179") == Pixels(0.0171, -2.1179)
    assert pixels.parse("-1,255").values().tolist() == list(range(255, -1, -1))


@pytest.mark.parametrize(
    "text",
    ["0..2", "1", "1,2,3", "one,two", "0,1", "nan,0", "1,inf", "1e38,0", "1e999,0", "", "1,-1e39"],
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(UsageError, match=r"Expected: --pixels as 0\.\.1, 0\.\.255, -1\.\.1, or SCALE,OFFSET"):
        pixels.parse(text)


@pytest.mark.parametrize(
    ("entrance", "black", "white"),
    [
        (tensor("uint8", 1 / 255), 0, 1),
        (tensor("int8", 1 / 255, -128), 0, 1),
        (tensor("uint8", 1.0), 0, 255),
        (tensor("int8", 1.0, -128), 0, 255),
        (tensor("uint8", 1 / 128, 128), -1, 127 / 128),
        (tensor("int8", 1 / 127.5, 0), -128 / 127.5, 127 / 127.5),
    ],
)
def test_an_integer_input_says_what_a_pixel_is(entrance: Tensor, black: float, white: float) -> None:
    found = pixels.derived(entrance)
    assert (found.values()[0], found.values()[-1]) == pytest.approx((black, white))
    # Its own values, in order: nothing is rounded on the way.
    made = pixels.table(found, entrance)
    bounds = np.iinfo(entrance.dtype)
    assert made == ("raw" if bounds.min == 0 else list(range(bounds.min, bounds.max + 1)))


@pytest.mark.parametrize("entrance", [tensor("uint8", 0.0187, 114), tensor("int8", 0.8 / 255, -128)])
def test_an_input_that_was_calibrated_on_colours_does_not(entrance: Tensor) -> None:
    with pytest.raises(
        UsageError, match=r"Expected: an input that spans 0\.\.1, 0\.\.255, -1\.\.1"
    ) as caught:
        pixels.derived(entrance)
    assert "--pixels" in caught.value.hint


def test_a_float_input_gets_the_values_themselves() -> None:
    made = pixels.table(RANGES["-1..1"], tensor("float32"))
    assert isinstance(made, list)
    assert made == pytest.approx(np.linspace(-1, 1, 256), abs=1e-6)
    # What a manifest holds is what float32 holds.
    assert [float(np.float32(value)) for value in made] == made


def test_values_outside_are_held_at_the_ends() -> None:
    made = pixels.table(RANGES["0..255"], tensor("int8", 1.2, -100))
    assert isinstance(made, list)
    assert (made[0], made[-1]) == (-100, round(255 / 1.2) - 100)
    wide = pixels.table(RANGES["0..255"], tensor("int8", 1.0, 0))
    assert isinstance(wide, list)
    assert wide[:128] == list(range(128))
    assert set(wide[128:]) == {127}


@pytest.mark.parametrize(
    ("entrance", "said"),
    [
        (tensor("int8", 1.0, 0), "with 1 shades of 256|with 2 shades of 256"),
        (tensor("int16", 1.0), "Received: int16"),
        (tensor("int8"), "with scale 0"),
        (tensor("uint8", -1.0), "with scale -1"),
        (tensor("uint8", float("nan")), "with scale nan"),
    ],
)
def test_inputs_that_no_pixel_goes_into(entrance: Tensor, said: str) -> None:
    with pytest.raises(DataError, match=said):
        pixels.table(RANGES["0..1"], entrance)
