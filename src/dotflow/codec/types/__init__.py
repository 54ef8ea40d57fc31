"""Types that JSON can't hold."""
