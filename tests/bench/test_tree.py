"""The generated release has the shape that is stated (docs/benchmarks.md), and is the same everywhere."""

from __future__ import annotations

import io
import tarfile
import zlib
from collections import Counter

import pytest

from . import tree

SCALE = 0.1


@pytest.fixture(scope="module")
def entries():
    return {path: content for path, _, content in tree.entries(SCALE)}


@pytest.fixture(scope="module")
def files(entries):
    return {path: len(content) for path, content in entries.items() if content is not None}


def at(values, part):
    return sorted(values)[int(len(values) * part)]


def test_how_many(entries, files):
    assert len(files) == round(93_989 * SCALE) and len(entries) - len(files) == round(39_283 * SCALE)


def test_sizes(files):
    for part, size in {0.05: 186, 0.25: 745, 0.5: 1607, 0.75: 3972, 0.9: 9200, 0.95: 14_900, 0.99: 64_700}.items():
        assert at(files.values(), part) == pytest.approx(size, rel=0.02)
    # 644 MB in 95,932 files.
    assert sum(files.values()) / len(files) == pytest.approx(6713, rel=0.05)


def test_files_per_directory(entries, files):
    holds = Counter(path.rpartition("/")[0] for path in files)
    counts = [holds.get(path, 0) for path, content in entries.items() if content is None]
    assert (at(counts, 0.5), at(counts, 0.9)) == (1, 5) and 20 <= at(counts, 0.99) <= 24
    # The fullest of a tenth of the directories; of all of them about 500.
    assert 100 < max(counts) <= 506


def test_depths_and_lengths_of_paths(files):
    depths = [path.count("/") + 1 for path in files]
    assert max(depths) == 21 and sum(3 <= depth <= 11 for depth in depths) > 0.85 * len(depths)
    lengths = list(map(len, files))
    assert at(lengths, 0.5) == pytest.approx(81, abs=6) and 150 < max(lengths) < 256


def test_kinds_by_bytes(files):
    by_kind = Counter()
    for path, size in files.items():
        by_kind[path.rpartition(".")[2]] += size
    for kind, part in {"php": 0.53, "js": 0.17, "xml": 0.07}.items():
        assert by_kind[kind] / sum(files.values()) == pytest.approx(part, abs=0.04)


def test_it_is_a_shop_as_far_as_a_deploy_sees(entries):
    assert {"app/etc/config.php", "bin/magento", "pub/index.php"} <= set(entries)
    for taken in ("var", "pub/media", "app/etc/env.php"):
        assert taken not in entries


@pytest.fixture(scope="module")
def archive():
    file = io.BytesIO()
    tree.write_tar(file, 0.04)
    return file.getvalue()


def test_how_well_it_compresses(archive):
    # 743 MB of tar are 120 MB of tar.gz.
    assert len(archive) / len(zlib.compress(archive, 6)) == pytest.approx(743 / 120, rel=0.07)


def test_the_tar_has_parents_first_and_no_name_twice(archive):
    seen = set()
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for info in tar:
            assert info.name not in seen
            assert info.name in (".", "./app") or info.name.rpartition("/")[0] in seen
            seen.add(info.name)
    assert "./app/etc" in seen


def test_it_is_the_same_everywhere():
    """A change of the generator changes this on purpose; figures from before are of another release."""
    assert tree.version() == "7daf948b143c"
