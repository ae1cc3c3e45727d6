"""How a training run shows itself, in a real terminal and without one."""

import fcntl
import io
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from mixmae.training.display import Display, Length

TITLE = "pretrain 523012d1bb064976"
SAID = {"loss": 0.43217, "lr": 1.5e-4, "grad_norm": 1.234, "memory_gb": 61.23, "waited_s": 0.25}
LOGGER = "mixmae.training.display"


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A display without a terminal whose steps take as long as they are told; `lines` holds what it logged."""

    def __init__(self, caplog, epochs=4, steps_per_epoch=100, first_step=0):
        caplog.set_level(logging.INFO, LOGGER)
        self.caplog, self.clock, self.number = caplog, Clock(), first_step
        length = Length(epochs, steps_per_epoch, 64)
        self.display = Display(TITLE, length, first_step, stream=io.StringIO(), clock=self.clock)

    def steps(self, count: int, seconds: float, **said) -> None:
        for _ in range(count):
            self.clock.now += seconds
            self.number += 1
            self.display.step(self.number, **SAID | said)

    @property
    def lines(self) -> list[str]:
        return [record.getMessage() for record in self.caplog.records if record.name == LOGGER]

    def last(self) -> str:
        self.display.close()
        return self.lines[-1]


def test_a_line_a_minute_holds_every_figure_with_its_unit(caplog):
    run = Run(caplog)
    run.steps(59, 1.0)
    assert run.lines == []
    run.steps(60, 1.0)
    assert run.lines == [
        f"{TITLE}: epoch 1/4, step 60/400, 64 images/s, ETA 5 min 40 s, loss 0.4322, learning rate 0.00015, "
        "gradient norm 1.23 (mean 1.23), memory 61.2 GB, data wait 25 %"
    ]
    run.steps(11, 1.0)
    assert len(run.lines) == 2 and "epoch 2/4, step 120/400" in run.lines[1]
    assert "epoch 2/4, step 130/400" in run.last() and len(run.lines) == 3
    run.display.close()
    assert len(run.lines) == 3


def test_without_a_step_nothing_is_said(caplog):
    run = Run(caplog)
    run.clock.now += 300
    run.display.close()
    assert run.lines == []


def test_the_first_step_is_not_the_speed(caplog):
    run = Run(caplog)
    run.steps(1, 90.0)
    assert "? images/s, ETA ?, loss 0.4322" in run.lines[0] and "data wait ? %" in run.lines[0]
    run.steps(1, 0.5)
    assert "128 images/s, ETA 3 min 19 s" in run.last()


def test_a_resumed_run_counts_from_its_first_step(caplog):
    run = Run(caplog, first_step=300)
    run.clock.now += 20
    run.steps(2, 2.0)
    found = run.last()
    assert "epoch 4/4, step 302/400, 32 images/s, ETA 3 min 16 s" in found


def test_speed_is_that_of_the_last_steps(caplog):
    run = Run(caplog, epochs=100)
    run.steps(101, 2.0)
    run.steps(49, 1.0)
    assert "62.7 images/s" in run.last()  # 51 steps in 51 s: one of the slow ones among the last 50
    run.steps(1, 1.0)
    assert "64 images/s" in run.last()
    run.steps(239, 0.125)
    assert "497 images/s" in run.last()  # 29.875 s of them and one of 1 s
    run.steps(1, 0.125)
    assert "512 images/s" in run.last()


def test_pauses_are_no_speed_but_count_for_the_time_left(caplog):
    run = Run(caplog)
    run.steps(100, 1.0)
    assert "64 images/s, ETA 5 min 0 s" in run.last()
    with run.display.pause("validating"):
        run.clock.now += 50
    with pytest.raises(ZeroDivisionError), run.display.pause("saving"):
        run.clock.now += 10
        raise ZeroDivisionError
    run.steps(1, 1.0)
    assert "64 images/s, ETA 7 min 59 s" in run.last()  # 299 steps and three times 60 s
    run.steps(299, 1.0)
    assert "step 400/400, 64 images/s, ETA 0 s" in run.last()


def test_a_run_that_goes_back_shows_where_it_is(caplog):
    run = Run(caplog, first_step=250)
    run.steps(3, 1.0)
    run.number = 199
    run.steps(1, 1.0)
    assert "epoch 2/4, step 200/400, 64 images/s, ETA 3 min 20 s" in run.last()


def test_what_is_no_number_is_shown_and_left_out_of_the_mean(caplog):
    run = Run(caplog)
    run.steps(2, 1.0, grad_norm=2.0)
    run.steps(1, 1.0, grad_norm=4.0)
    run.steps(1, 1.0, grad_norm=float("inf"), loss=float("nan"))
    assert "loss nan, learning rate 0.00015, gradient norm inf (mean 3)" in run.last()


@pytest.mark.parametrize(
    ("left", "shown"),
    [(59, "59 s"), (61, "1 min 1 s"), (3599, "59 min 59 s"), (7260, "2 h 1 min"), (90000, "1 d 1 h"), (0, "0 s")],
)
def test_the_time_left_in_its_two_largest_units(caplog, left, shown):
    run = Run(caplog, epochs=1, steps_per_epoch=left + 2)
    run.steps(2, 1.0)
    assert f"ETA {shown}, loss" in run.last()


# ------------------------------------------------------------------------------------------------------------ terminal

PROGRAM = """
import logging, sys, time, warnings
from mixmae.training.display import Display, Length

handler = logging.StreamHandler(sys.stderr)
logging.getLogger("mixmae").addHandler(handler)
logging.getLogger("mixmae").setLevel(logging.INFO)
began = time.monotonic()
display = Display("finetune 719f752686ee04f8", Length(300, 1250, 4096), 100_000)
for step in range(100_001, 100_061):
    time.sleep(0.01)
    display.step(step, 12345.678, 1.25e-5, 12345.678, 61.23, 0.002)
    if step == 100_030:
        logging.getLogger("mixmae.data").warning("a file: %s", "long " * 30)
    if step == 100_040:
        warnings.warn("odd")
        print("on standard output")
        with display.pause("validating"):
            time.sleep(0.2)
display.close()
print(time.monotonic() - began)
assert handler.stream is sys.stderr is sys.__stderr__
logging.getLogger("mixmae").info("after it")
"""


def in_terminal(columns: int, program: str = PROGRAM, **environment) -> tuple[str, str]:
    """(what the program wrote to a terminal that wide, what it wrote to standard output, no terminal)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    asked = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    running = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=asked | {"TERM": "xterm-256color"} | environment,
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            written += os.read(ours, 65536)
        except OSError:  # EIO: the other end is closed
            break
    os.close(ours)
    output, _ = running.communicate()
    assert running.returncode == 0, written.decode()
    return written.decode(), output.decode()


def screen(written: str, columns: int) -> list[str]:
    """The lines a terminal that wide shows, those scrolled out included."""
    lines, row, column = [[]], 0, 0
    for code, count, kind, character in re.findall(r"(\x1b\[\??(\d*)[;\d]*([A-Za-z]))|([\s\S])", written):
        if code:
            row -= int(count or 1) if kind == "A" else 0
            assert row >= 0 and kind in "AKmhl", code
            if kind == "K":
                lines[row] = []
            continue
        if character == "\r":
            column = 0
            continue
        if character == "\n" or column == columns:
            row, column = row + 1, column if character == "\n" else 0
            lines += [[] for _ in range(row + 1 - len(lines))]
            if character == "\n":
                continue
        lines[row] += " " * (column + 1 - len(lines[row]))
        lines[row][column] = character
        column += 1
    return ["".join(line).rstrip() for line in lines]


@pytest.mark.parametrize("columns", [80, 40, 200])
def test_the_frame_fits_the_terminal_and_what_is_logged_stays_above_it(columns):
    written, output = in_terminal(columns)
    shown = screen(written, columns)
    assert output.startswith("on standard output\n")
    assert all(len(line) <= columns for line in shown)
    assert shown[-2:] == ["after it", ""]
    (head,) = [number for number, line in enumerate(shown) if line.startswith("finetune")]
    assert shown[head].startswith("finetune 719f752686ee04f8 ━━") and len(shown[head]) == columns
    above, frame = "".join(shown[:head]), "  ".join(shown[head + 1 : -2])
    assert "a file: " + "long " * 29 + "long" in above.replace("longlong", "long long")
    assert "UserWarning: odd" in above
    speed = r"\d+ images/s  ETA (\d+ h )?\d+ min( \d+ s)?"
    figures = "loss 1.235e+04  lr 1.25e-05  grad 1.23e+04 (mean 1.23e+04)  mem 61.2 GB  data wait"
    assert re.fullmatch(rf"epoch 81/300  step 100060/375000  {speed}  {re.escape(figures)} \d+ %", frame)
    assert written.count("finetune 719f752686ee04f8: validating") == 1
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l"), "the cursor is visible again"


def test_a_wide_terminal_takes_three_lines_and_redraws_eight_times_a_second():
    written, output = in_terminal(100)
    frames = written.count("finetune 719f752686ee04f8")
    beside_steps = 8  # the first, the last, for the pause, and for each write to standard error
    assert 4 <= frames <= 8 * float(output.split()[-1]) + beside_steps
    assert "\x1b[3A" not in written


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"TTY_INTERACTIVE": "0"}], ids=str)
def test_a_terminal_that_cannot_move_its_cursor_gets_lines(environment):
    written, _ = in_terminal(80, **environment)
    assert "\x1b" not in written
    assert "finetune 719f752686ee04f8: epoch 81/300, step 100060/375000, " in written


def test_colour_forced_on_a_file_brings_no_frame(monkeypatch, caplog):
    monkeypatch.setenv("FORCE_COLOR", "1")
    run = Run(caplog)
    run.steps(2, 1.0)
    assert run.last().startswith(f"{TITLE}: epoch 1/4, step 2/400")


def test_the_display_loads_no_torch():
    program = "import sys, mixmae.training.display; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
