"""`python -m pipeline` is the `treehead` command."""

from pipeline.cli import main

main()
