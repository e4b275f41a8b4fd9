"""How long things take, ours and what is used elsewhere, in turns. `make bench`; docs/benchmarks.md."""
