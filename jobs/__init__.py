"""The jobs: thin command-line programs that run the engine over Ray Data."""
