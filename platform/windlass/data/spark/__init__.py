"""Prepare's second engine: Spark, for data that outgrow one machine."""
