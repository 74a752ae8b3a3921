"""What a label is: examples, truths, maturity, tasks. Pure: the same records give the same labels, however batched."""
