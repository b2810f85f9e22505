"""Tables: cells that know where their number comes from, and the tables of the paper made of them."""
