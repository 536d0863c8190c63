"""The member as others see it: its state for the operator, life and readiness for the kubelet."""
