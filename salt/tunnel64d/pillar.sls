# A pillar with mistakes ends the run here, before anything is touched.
---
{%- from 'tunnel64d/map.jinja' import mistakes with context %}
{%- if mistakes %}

tunnel64d-pillar:
  test.fail_without_changes:
    - name: tunnel64d pillar
    - comment: {{ mistakes | join('\n') | json }}
    - failhard: true
    - order: 1
{%- endif %}
