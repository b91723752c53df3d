"""Measurements: functions of a net, a mixture and batches; they change nothing."""
