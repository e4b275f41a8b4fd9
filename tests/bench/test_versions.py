"""Versions of a release differ in as many files as they should, for those who read the archive and for those who read a tree."""

from __future__ import annotations

import io
import random
import tarfile

import pytest

from . import tree
from .process import Failed
from .versions import PIECE, STAMP, Spot, chosen, dated, spots, stamp, stamped


def archive(sizes, long=False):
    """A tar of files of these sizes, with random contents; `long`: with paths that take blocks of their own."""
    file, dice = io.BytesIO(), random.Random(1)
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        tar.addfile(tree.header("app", 0o755, None))
        for number, size in enumerate(sizes):
            content = dice.randbytes(size)
            name = f"app/{'long/' * 60 if long else ''}{number}.php"
            tar.addfile(tree.header(name, 0o644, content), io.BytesIO(content))
    return file.getvalue()


def read(plain):
    with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
        return {info.name: (info.mtime, tar.extractfile(info).read() if info.isreg() else None) for info in tar}


def pieces(plain, size=PIECE):
    return [plain[at : at + size] for at in range(0, len(plain), size)]


# Of whole blocks, so that a header is at the end of one, at the beginning, or both are in one.
@pytest.mark.parametrize("size", [512, 1024, 4096, PIECE])
@pytest.mark.parametrize("long", [False, True])
def test_the_files_that_are_wanted_and_no_others_are_stamped_and_dated(size, long):
    plain = archive([0, 5, 16, 511, 512, 513, 3000, 20_000], long)
    every = list(spots(io.BytesIO(plain)))
    assert len(every) == 6, "what has no room for a stamp is left out"
    wanted = [every[0], every[1], every[5]]
    before, after = read(plain), read(b"".join(stamped(pieces(plain, size), wanted, 7)))
    assert list(before) == list(after)
    changed = {name.removeprefix("./") for name in before if before[name] != after[name]}
    assert changed == {spot.name for spot in wanted}
    for spot in wanted:
        (_, old), (time, new) = before[f"./{spot.name}"], after[f"./{spot.name}"]
        assert time == tree.BUILT + 7 and new == stamp(7) + old[STAMP:]


def test_any_two_versions_differ_in_the_same_files():
    plain = archive([100] * 50)
    wanted = chosen(list(spots(io.BytesIO(plain))), 10)
    one, two = (read(b"".join(stamped(pieces(plain), wanted, number))) for number in (1, 2))
    assert {name.removeprefix("./") for name in one if one[name] != two[name]} == {spot.name for spot in wanted}


def test_nothing_changed_is_the_same_tar():
    plain = archive([100] * 5)
    assert b"".join(stamped(pieces(plain, 512), [], 3)) == plain


def test_an_archive_that_ends_early_is_no_version():
    plain = archive([100, 100])
    last = list(spots(io.BytesIO(plain)))[-1]
    with pytest.raises(Failed, match="shorter"):
        list(stamped([plain[: last.at]], [last], 1))


def test_which_files_are_chosen():
    every = [Spot(f"{number}", 512 * number) for number in range(100)]
    assert chosen(every, 200) == chosen(every, 100, {"3"}) == every
    some = chosen(every, 4, {"0", "25"})
    assert len(some) == 4 and not {"0", "25"} & {spot.name for spot in some}
    # From all of it, in its order.
    assert some == sorted(some, key=lambda spot: spot.at) and some[-1].at > 512 * 70


def test_a_header_of_another_time_is_still_one():
    header = tree.header("a", 0o644, b"x")
    header.mtime = 99
    assert dated(bytearray(tree.header("a", 0o644, b"x").tobuf(tarfile.GNU_FORMAT)), 99) == header.tobuf(tarfile.GNU_FORMAT)
