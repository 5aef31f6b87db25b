"""The HTML page of an exported file, and programs that call the file."""
