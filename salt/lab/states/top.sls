---
base:
  '*':
    - tunnel64d
