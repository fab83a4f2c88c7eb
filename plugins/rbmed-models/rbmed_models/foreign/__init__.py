"""Models from elsewhere: a function in a file, TorchScript, libraries, a module in Python; with any file of weights."""
