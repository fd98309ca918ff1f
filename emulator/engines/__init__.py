"""One module per engine; emulator/engine.py says what each must offer."""
