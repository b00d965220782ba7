"""How each API is spoken: pure translation, bytes in and bytes out. Every folder has the same file names."""
