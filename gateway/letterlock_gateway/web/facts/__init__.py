"""Facts for the views, made of the set that is shown. Pure: no requests, no answers."""
