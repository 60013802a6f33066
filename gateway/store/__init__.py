"""The store: what was decided, who may decide, and what happened in calls, kept durably for every municipality."""
