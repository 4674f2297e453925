"""``python -m medssl``, the form that torchrun needs."""

from medssl.cli.main import main

main()
