"""Actions on whole accounts: registering, logging in and out, passwords, deactivating. One transaction each."""
