"""`python -m letterlock_cli`: how `letterlock up` starts its members with the interpreter it runs in."""

from letterlock_cli.main import main

main()
