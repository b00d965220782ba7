"""What models exist: capabilities, context, prices, versions, aliases."""
