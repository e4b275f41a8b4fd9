"""A release with the shape of a real Magento 2.4.7 artifact, the same on every machine.

    PYTHONPATH=tests python3 -m bench.tree --scale 0.1 release.tar

writes it as a tar. What the shape is, was measured on a real one: how many files and directories,
the sizes' quantiles, how many files a directory holds, how deep and how long paths are, and how
well the bytes compress. Names and contents mean nothing.
"""

from __future__ import annotations

import argparse
import bisect
import hashlib
import io
import math
import random
import sys
import tarfile

FILES, DIRECTORIES = 93_989, 39_283
# (part of the files, bytes that these do not exceed). The first nine and the last are measured;
# those between are chosen so that the mean is the measured 6.7 kB.
SIZES = [
    (0.0, 20),
    (0.05, 186),
    (0.25, 745),
    (0.5, 1607),
    (0.75, 3972),
    (0.9, 9_200),
    (0.95, 14_900),
    (0.97, 24_000),
    (0.99, 64_700),
    (0.995, 105_000),
    (0.999, 483_000),
    (0.9999, 2_500_000),
    (1.0, 8_900_000),
]
# (part of the directories, files in one): half hold at most 1, 90 % at most 5, 99 % at most 22, one 506.
CROWDS = [(0.7, 2), (0.78, 3), (0.85, 4), (0.9, 5), (0.96, 9), (0.99, 22), (0.999, 60), (0.9999, 200), (1.0, 506)]
# The other directories hold 0 or 1; how many of them 1, follows from the number of files.
# Directories at depth 1, 2, ...; with a file in the deepest a path has 21 parts.
DEPTHS = [0.05, 0.3, 1.6, 5, 10, 15, 18, 17, 13, 9, 5.5, 2.7, 1.3, 0.7, 0.35, 0.2, 0.1, 0.05, 0.03, 0.02]
# Kinds by their part of the bytes.
KINDS = {"php": 0.53, "js": 0.17, "xml": 0.07, "html": 0.1, "css": 0.093, "png": 0.037}
# Where Magento has its own; the deploys link `var`, `pub/media` and `app/etc/env.php` there.
FIXED_DIRECTORIES = ("app", "app/etc", "bin", "pub")
FIXED_FILES = {"app/etc/config.php": (4000, 0o644), "bin/magento": (1500, 0o755), "pub/index.php": (1200, 0o644)}
SEED = 2047
# Who built it: nobody that a host knows, as on a build server. Time of all entries: 2026-01-01.
BUILDER, BUILT = 1000, 1_767_225_600

WORDS = [
    "Abstract",
    "Action",
    "Address",
    "Admin",
    "Api",
    "Asset",
    "Attribute",
    "Backend",
    "Block",
    "Bundle",
    "Cache",
    "Cart",
    "Catalog",
    "Category",
    "Checkout",
    "Collection",
    "Command",
    "Config",
    "Controller",
    "Create",
    "Cron",
    "Customer",
    "Data",
    "Delete",
    "Detail",
    "Di",
    "Entity",
    "Email",
    "Export",
    "Factory",
    "Field",
    "Filter",
    "Form",
    "Framework",
    "Grid",
    "Handler",
    "Helper",
    "Image",
    "Import",
    "Index",
    "Info",
    "Interface",
    "Inventory",
    "Item",
    "Layout",
    "Link",
    "List",
    "Listing",
    "Login",
    "Manager",
    "Map",
    "Media",
    "Message",
    "Model",
    "Module",
    "Observer",
    "Option",
    "Order",
    "Page",
    "Payment",
    "Plugin",
    "Price",
    "Processor",
    "Product",
    "Provider",
    "Queue",
    "Quote",
    "Reader",
    "Registry",
    "Renderer",
    "Report",
    "Repository",
    "Request",
    "Resolver",
    "Resource",
    "Result",
    "Review",
    "Rule",
    "Sales",
    "Save",
    "Search",
    "Section",
    "Select",
    "Service",
    "Session",
    "Setup",
    "Shipping",
    "Sitemap",
    "Stock",
    "Storage",
    "Store",
    "Swatch",
    "Tax",
    "Template",
    "Test",
    "Theme",
    "Translate",
    "Ui",
    "Update",
    "Url",
    "User",
    "Validator",
    "Value",
    "View",
    "Widget",
    "Wishlist",
    "Zone",
]


def quantile(table, part):
    """The value at `part` (0 to 1), between the table's points by the logarithm."""
    index = max(1, bisect.bisect_left([at for at, _ in table], part))
    (low, least), (high, most) = table[index - 1], table[min(index, len(table) - 1)]
    return math.exp(math.log(least) + (math.log(most) - math.log(least)) * (part - low) / ((high - low) or 1))


def spread(count):
    """`count` parts between 0 and 1, evenly."""
    return [(number + 0.5) / count for number in range(count)]


def shuffled(values, dice):
    """Only random() is promised to stay the same between versions of Python."""
    return [value for _, _, value in sorted((dice.random(), number, value) for number, value in enumerate(values))]


def words(dice, least, most):
    count = least + int(dice.random() * (most - least + 1))
    return "".join(WORDS[int(dice.random() * len(WORDS))] for _ in range(count))


def unused(name, extension, taken):
    """`name`, or the first of name2, name3 ... that is not taken."""
    number, found = 1, name + extension
    while found in taken:
        number += 1
        found = f"{name}{number}{extension}"
    taken.add(found)
    return found


def directories(count, dice):
    """Paths, parents first."""
    per_depth = [max(1, round(count * weight / sum(DEPTHS))) for weight in DEPTHS]
    per_depth[6] += count - sum(per_depth) - len(FIXED_DIRECTORIES)
    levels, taken = [[""]], {"": {"app", "bin", "pub"}, "app": {"etc"}}
    for size in per_depth:
        parents, level = levels[-1], []
        for _ in range(size):
            # Some have many children, most have few.
            parent = parents[int(dice.random() ** 1.6 * len(parents))]
            name = words(dice, 1, 2) if dice.random() < 0.62 else words(dice, 1, 1).lower()
            name = unused(name, "", taken.setdefault(parent, set()))
            level.append(f"{parent}/{name}" if parent else name)
        levels.append(shuffled(level, dice))
    return [*FIXED_DIRECTORIES, *(path for level in levels[1:] for path in level)]


def crowds(count, files):
    """How many files the directories hold; `files` in all."""
    few = round(count * CROWDS[0][0])
    found = [max(2, round(quantile(CROWDS, part))) for part in spread(count) if part > CROWDS[0][0]]
    few = count - len(found)
    rest = files - sum(found)
    # 1 where there is one left, else 0; should there be more than that, some hold 2.
    return [rest // few + (number < rest % few) for number in range(few)] + found


class Text:
    """Lines that compress as the program text of a shop does."""

    LINES = {
        "php": [
            "    /**\n     * @param %s $%s\n     * @return %s\n     * @throws \\Magento\\Framework\\Exception\\%sException\n     */",
            "    public function get%s(%s $%s): %s\n    {",
            "        return $this->%s->get%s($%s->get%s());",
            "        $%s = $this->%sFactory->create();",
            "        if ($%s->has%s() && !$this->is%s($%s)) {\n            throw new LocalizedException(__('%s'));\n        }",
            "        $this->%s->expects($this->once())->method('get%s')->with($%s)->willReturn($%s);",
            "use Magento\\Framework\\%s\\%s\\%sInterface;",
            "        foreach ($this->get%s() as $%s) {\n            $result['%s'] = $%s->getData('%s');\n        }",
            "    private $%s;\n",
            "        $this->%s = $%s ?: ObjectManager::getInstance()->get(%s::class);",
            "    }\n",
            "        self::assertEquals(%d, $%s->get%s());",
        ],
        "js": [
            "define(['jquery', 'Magento_%s/js/%s', 'mage/%s'], function ($, %s) {\n    'use strict';",
            "        this.%s = options.%s || $('.%s-%s').data('%s');",
            "    %s: function (%s, %s) {\n        var self = this;",
            "        $('#%s').on('click', function (event) {\n            event.preventDefault();\n            self.%s();\n        });",
            "        return this.%s().observe(['%s', '%s']);",
            "        if (typeof %s !== 'undefined' && %s.length > %d) {\n            %s.%s(%d);\n        }",
            "    },\n",
        ],
        "xml": [
            '    <type name="Magento\\%s\\Model\\%s">\n        <plugin name="%s_%s" type="Magento\\%s\\Plugin\\%s"/>\n    </type>',
            '        <field id="%s" translate="label" type="%s" sortOrder="%d" showInDefault="1" showInWebsite="1">',
            '            <argument name="%s" xsi:type="object">Magento\\%s\\%s</argument>',
            '    <preference for="Magento\\%s\\Api\\%sInterface" type="Magento\\%s\\Model\\%s"/>',
            "        </field>",
            '    <column xsi:type="int" name="%s_%s" unsigned="true" nullable="false" identity="false" comment="%s %s"/>',
        ],
        "html": [
            '<div class="%s-%s" data-bind="scope: \'%s\'">',
            "    <?= $block->escapeHtml(__('%s %s')) ?>",
            '    <input type="text" name="%s[%s]" id="%s" class="input-text" value="<?= $escaper->escapeHtmlAttr($%s) ?>"/>',
            "</div>",
            '"%s the %s before the %s","%s the %s before the %s"',
        ],
        "css": [
            ".%s-%s .%s {\n    .lib-css(margin, @indent__%s);\n    display: block;",
            "    .lib-font-size(@%s-%s__font-size);",
            "    color: #%d; padding: %dpx %dpx;",
            "}\n",
            "@%s-%s__%s-color: @color-%s%d;",
        ],
    }
    HEADS = {
        "php": "<?php\n/**\n * Copyright 2026 The makers of this shop\n * All rights reserved.\n */\n"
        "declare(strict_types=1);\n\n"
        "namespace Magento\\",
        "js": "/**\n * Copyright 2026 The makers of this shop\n * All rights reserved.\n */\n",
        "xml": '<?xml version="1.0"?>\n<!--\n/**\n * Copyright 2026 The makers of this shop\n * All rights '
        "reserved.\n */\n-->\n"
        '<config xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n',
        "html": "<!--\n/**\n * Copyright 2026 The makers of this shop\n */\n-->\n",
        "css": "/**\n * Copyright 2026 The makers of this shop\n */\n",
    }
    # Of the lines, those that are one of the last few again; bytes of text for each kind.
    AGAIN, RECENT, LENGTH = 0.5, 120, 3_000_000

    def __init__(self, dice):
        self.dice = dice
        self.pools = {kind: self.pool(lines) for kind, lines in self.LINES.items()}

    def name(self):
        """Few names are used often, many seldom."""
        first = WORDS[int(self.dice.random() ** 2.2 * len(WORDS))]
        if self.dice.random() < 0.45:
            return first.lower()
        return first + WORDS[int(self.dice.random() ** 2.2 * len(WORDS))]

    def pool(self, lines):
        random_, parts, length, recent = self.dice.random, [], 0, []
        while length < self.LENGTH:
            if recent and random_() < self.AGAIN:
                line = recent[int(random_() * len(recent))]
            else:
                pieces = lines[int(random_() * len(lines))].replace("%d", "%s\0").split("%s")
                line = pieces[0]
                for piece in pieces[1:]:
                    if piece.startswith("\0"):
                        line += str(int(random_() * 9999)) + piece[1:]
                    else:
                        line += self.name() + piece
                recent.append(line)
                if len(recent) > self.RECENT:
                    recent.pop(0)
            parts.append(line)
            length += len(line) + 1
        return ("\n".join(parts) + "\n").encode()

    def content(self, kind, size):
        """`size` bytes."""
        if kind == "png":
            # What is compressed already.
            return self.dice.getrandbits(8 * size).to_bytes(size, "little") if size else b""
        pool, found = self.pools[kind], [self.HEADS[kind].encode()]
        left = size - len(found[0])
        while left > 0:
            start = pool.index(b"\n", int(self.dice.random() * (len(pool) - 10_000))) + 1
            found.append(pool[start : start + left])
            left -= len(found[-1])
        return b"".join(found)[:size]


def kinds(count):
    """One kind for each of `count` sizes in order: so each has its part of the bytes."""
    owed, found = dict.fromkeys(KINDS, 0.0), []
    for _ in range(count):
        for kind, part in KINDS.items():
            owed[kind] += part
        most = max(owed, key=owed.get)
        owed[most] -= 1
        found.append(most)
    return found


def entries(scale=1.0, seed=SEED):
    """(path, mode, content) in the order of a tar, directories (content None) before what is in them."""
    dice = random.Random(seed)
    count, files = max(60, round(DIRECTORIES * scale)), max(80, round(FILES * scale))
    there = directories(count, dice)
    sizes = [round(quantile(SIZES, part)) for part in spread(files - len(FIXED_FILES))]
    todo = shuffled(list(zip(sizes, kinds(len(sizes)))), dice)
    plan = [(path, 0o755, None, None) for path in there]
    plan += [(path, mode, "php", size) for path, (size, mode) in FIXED_FILES.items()]
    taken = {path.rpartition("/")[0]: set() for path in there} | {path: set() for path in there}
    for path in [*there, *FIXED_FILES]:
        parent, _, name = path.rpartition("/")
        taken[parent].add(name)
    for path, crowd in zip(there, shuffled(crowds(count, len(todo)), dice)):
        for _ in range(crowd):
            size, kind = todo.pop()
            name = unused(words(dice, 1, 3), f".{kind}", taken[path])
            plan.append((f"{path}/{name}", 0o644, kind, size))
    text = Text(dice)
    for path, mode, kind, size in sorted(plan, key=lambda entry: entry[0].split("/")):
        yield path, mode, text.content(kind, size) if kind else None


def write_tar(file, scale=1.0, seed=SEED):
    """As `tar -C release -cf file .` would, in GNU's format."""
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.GNU_FORMAT, bufsize=1 << 20) as tar:
        tar.addfile(header("", 0o755, None))
        for path, mode, content in entries(scale, seed):
            tar.addfile(header(path, mode, content), io.BytesIO(content) if content is not None else None)


def version():
    """Changes when the generator makes another release."""
    file = io.BytesIO()
    write_tar(file, 0.005)
    return hashlib.sha256(file.getvalue()).hexdigest()[:12]


def header(path, mode, content):
    info = tarfile.TarInfo(f"./{path}" if path else ".")
    info.mode, info.mtime = mode, BUILT
    info.uid = info.gid = BUILDER
    if content is None:
        info.type = tarfile.DIRTYPE
    else:
        info.size = len(content)
    return info


def main():
    parser = argparse.ArgumentParser(prog="python3 -m bench.tree", description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("tar", nargs="?", help="where to write it (default: standard output)")
    options = parser.parse_args()
    with open(options.tar, "wb") if options.tar else sys.stdout.buffer as file:
        write_tar(file, options.scale)


if __name__ == "__main__":
    main()
