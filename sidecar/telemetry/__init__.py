"""What happened to requests, told after the fact: metrics, access log and spans, all off the request path."""
