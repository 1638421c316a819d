---
{%- from 'tunnel64d/map.jinja' import routes with context %}
{%- for destination, route in routes.items() %}

tunnel64d-route-{{ destination }}-absent:
  tunnel64d.route_absent:
    - name: {{ destination | json }}
    {%- if route.get('table') %}
    - table: {{ route.get('table') }}
    {%- endif %}
{%- endfor %}
