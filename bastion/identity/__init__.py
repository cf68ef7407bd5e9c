"""Who a credential belongs to and what a credential is; used by cli."""
