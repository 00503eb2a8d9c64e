"""What clients of other projects speak, each as a thin module over the same works.

Parameters that mean nothing here are refused in words, unless their clients cannot help sending them: then
they are passed over, and X-Ignored names them.
"""
