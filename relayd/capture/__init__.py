"""`relayd capture`: the datagrams of one session as the relay gets and sends them, in a file for Wireshark."""
