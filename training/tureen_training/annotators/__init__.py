"""Annotators are not equal: agreement, reliability, labels from several people, audit of labels."""
