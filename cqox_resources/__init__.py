"""Resources: settings, storage, reports; knows no asset."""
