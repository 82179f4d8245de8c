"""What clients and backends say to each other, and how it is put into another dialect. No input or output."""
