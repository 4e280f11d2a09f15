"""What a command line says: the commands, their arguments, the YAML of --config, help and hints."""
