"""The store of a swarm with several control-plane instances: etcd v3, over a client of our own."""
