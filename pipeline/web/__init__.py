"""A page that classifies images in the browser that shows it: files for any web server, and no program behind them."""
