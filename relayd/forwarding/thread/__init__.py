"""Sockets served by a thread in C: datagrams of bound users never wait for Python."""
