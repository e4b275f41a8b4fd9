"""Asks for pages with the prober of tests/downtime until there is a file OUTPUT.end.

python3 load.py URL OUTPUT
"""

import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from downtime.probing import Probing

url, output = sys.argv[1:]
end = Path(f"{output}.end")
with Probing(url, output):
    while not end.exists():
        time.sleep(0.05)
