"""The load generator: real UDP sockets, many datagrams in one system call, every one of them checked on arrival."""
