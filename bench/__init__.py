"""The harness: data, certifier, store, reports. It knows no method."""
