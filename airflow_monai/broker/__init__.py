"""Messages to and from other systems: what they say (:mod:`airflow_monai.broker.events`) and what carries them."""
