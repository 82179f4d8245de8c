"""Inference servers that the sidecar starts itself: found, sized, guarded, watched and restarted."""
