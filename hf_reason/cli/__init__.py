"""The command line: `hf-reason <command>`, and the same commands as modules with a `main(argv)`."""
