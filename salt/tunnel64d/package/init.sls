---
include:
  - tunnel64d.package.install
