"""The labeling room: what a label is, when it is mature, and how people make one."""
