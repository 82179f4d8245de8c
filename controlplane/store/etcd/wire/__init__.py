"""etcd's v3 messages, generated from ``proto/controlplane/store/etcd/wire/v3.proto``."""
