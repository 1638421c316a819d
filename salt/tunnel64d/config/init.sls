---
include:
  - tunnel64d.config.file
