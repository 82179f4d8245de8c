"""The request path: client and peer listeners, upstream connections and everything between them."""
