"""Every layout that two languages, two processes or two versions share, declared once.

`terms` has the words; `kernel_maps`, `state_file` and `thread` say with them what is shared with the kernel program,
with the process after this one, and with the forwarding thread. Python takes its offsets from here, C its headers
(relayd/forwarding/generated), and the version of each layout is a digest of what is said here: no number is to be
raised by hand.
"""
