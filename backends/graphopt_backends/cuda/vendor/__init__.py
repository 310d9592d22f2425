"""Which regions a vendor's library computes, and how it is told."""
